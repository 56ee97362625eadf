"""Runs a program in a terminal of its own, which lines on stdin operate; what it shows goes to stdout.

type HEX   types these bytes at the keyboard
stop       stops the output as Ctrl-S does, and says so on stderr
signal N   sends a signal to the program alone
"""

import os
import pty
import select
import sys
import termios

pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])


def obey(command, argument=""):
    if command == "type":
        os.write(terminal, bytes.fromhex(argument))
    elif command == "stop":
        # A pending Ctrl-S has no acknowledgement; this call has the same effect when it returns.
        line = os.open(os.readlink(f"/proc/{pid}/fd/0"), os.O_RDWR | os.O_NOCTTY)
        termios.tcflow(line, termios.TCOOFF)
        os.close(line)
        os.write(2, b"stopped\n")
    elif command == "signal":
        os.kill(pid, int(argument))


while True:
    readable, _, _ = select.select([0, terminal], [], [])
    if terminal in readable:
        try:
            shown = os.read(terminal, 65536)
        except OSError:
            # The program has ended, and all who had its terminal.
            break
        os.write(1, shown)
    if 0 in readable:
        commands = os.read(0, 65536).decode().splitlines()
        if not commands:
            os.kill(pid, 9)
            break
        for each in commands:
            obey(*each.split())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
