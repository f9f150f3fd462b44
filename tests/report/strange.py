"""Text that pictures must bear."""

HOSTILE = [
    "",
    "\n\r\x00\x1b[31m",
    "lone surrogate \ud800",
    "\u202eright to left",
    "日本 👍🏽 أهلا",
    "z" + "\u0301" * 500,
    "W" * 2_000_000,
    "many\n" * 1000,
    "\ufdfa" * 5000,
    "$\\frac{1}{0$ ${$ $$ 100% \\input{/etc/passwd}",
    "{0} {name} %s %(x)d \\n",
]
