"""Exit codes of the command line."""

OK = 0
BUG = 1
CANNOT_GO_ON = 2
TOO_MANY_REFUSED = 3
INVALID = 4
INTERRUPTED = 130
