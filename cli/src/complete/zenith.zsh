#compdef zenith
# Completion of zenith in zsh, by zenith itself.
_zenith() {
    local -a answers go_on whole
    # Candidates come as `name:what it is`, colons of the name as `\:`.
    answers=("${(@f)$(
        _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((CURRENT - 1)) \
            COMPLETE_VARIABLE=zsh zenith -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null
    )}")
    local answer value
    for answer in $answers; do
        value=${answer//\\:/$'\0'}
        value=${value%%:*}
        # A directory, an option with a value and a snapshot with a table go on.
        if [[ $value == *[/=$'\0'] ]]; then
            go_on+=("$answer")
        else
            whole+=("$answer")
        fi
    done
    (($#go_on)) && _describe -V values go_on -S ''
    (($#whole)) && _describe -V values whole
}
# A file of $fpath is run when a word is completed for the first time, a sourced one is not.
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _zenith "$@"
else
    compdef _zenith zenith
fi
