# Completion of zenith in fish, by zenith itself.
function __zenith_complete
    # An open quote belongs to the shell.
    set -l word (commandline --current-token --cut-at-cursor | string replace --regex '^[\'"]' '')
    COMPLETE_VARIABLE=fish zenith -- \
        (commandline --current-process --tokenize --cut-at-cursor) "$word" 2>/dev/null
end
complete --keep-order --exclusive --command zenith --arguments '(__zenith_complete)'
