# Completion of zenith in bash, by zenith itself.
_zenith() {
    # bash splits words at : = and @ as well. Where no white space is between two of them on the
    # line they are one word, as zenith will see it.
    local words=() line=$COMP_LINE word glued i index=0 quoted=no
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        glued=no
        if ((i > 0)) && [[ $line == "$word"* && $line != [[:space:]]* ]]; then
            glued=yes
        fi
        line=${line#"${line%%[![:space:]]*}"}
        line=${line#"$word"}
        if ((i < COMP_CWORD)); then
            [[ $word == \"*\" || $word == \'*\' ]] && word=${word:1:-1}
        elif [[ $word == *[!:=@]* ]]; then
            # What lies behind the cursor does not count, and an open quote belongs to the shell.
            [[ $word == [\"\']* ]] && quoted=yes
            word=${2#[\"\']}
        fi
        if [[ $glued == yes ]]; then
            words[index]+=$word
        else
            words+=("$word")
            index=$((${#words[@]} - 1))
        fi
    done
    # bash puts the answer in the place of what it takes for the word, which is the end of ours.
    local has=
    [[ $quoted == no ]] && has=${words[index]%"${words[index]##*[:=@]}"}
    local IFS=$'\013'
    local answers
    answers=($(
        _CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX="$index" _CLAP_COMPLETE_COMP_TYPE="$COMP_TYPE" \
            COMPLETE_VARIABLE="bash" zenith -- "${words[@]}" 2>/dev/null
    ))
    COMPREPLY=()
    local answer
    for answer in "${answers[@]}"; do
        answer=${answer#"$has"}
        [[ $quoted == no ]] && printf -v answer '%q' "$answer"
        COMPREPLY+=("$answer")
    done
    # A directory, an option with a value and a snapshot with a table go on.
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/:] ]] || compopt +o nospace 2>/dev/null
}
complete -o nospace -o bashdefault -F _zenith zenith
