"""Runs PostgreSQL as its child, and stops it when standard input ends: when the holder of the other end stops or dies.

This file is run as a script by an interpreter of its own (`python -I -S`), so it imports built-in modules only.
It is the parent of PostgreSQL and never reaps it before its own end, so the process number that it signals cannot
have passed to somebody else.

Usage: embedded_watcher.py USER_ID GROUP_ID PROGRAM ARGUMENT... (a `-` for both numbers keeps the present user)
"""

import _thread
import os
import signal
import sys
import time

STOPPING = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 4.0), (signal.SIGKILL, 0.0))
"""Fast shutdown, then immediate shutdown, then none at all: signal, and how many seconds it gets."""
OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: list[str]) -> int:
    """Start the program, wait for its end, and return its exit status."""
    user_id, group_id, *command = arguments
    # Held back over the fork: a signal to a child that is not PostgreSQL yet must end it, and not be lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, OURS)
    child = os.fork()
    if child == 0:
        _become(user_id, group_id, command)
    for number in OURS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OURS)
    _thread.start_new_thread(_stop_at_end_of_input, (child,))
    ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return 1 if ended is None else ended.si_status


def _become(user_id: str, group_id: str, command: list[str]) -> None:
    try:
        for number in (*OURS, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, OURS)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if user_id != "-":
            os.setgroups([])
            os.setgid(int(group_id))
            os.setuid(int(user_id))
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        os.write(2, f"FATAL:  cannot run {command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _stop_at_end_of_input(child: int) -> None:
    while os.read(0, 1):
        pass
    for number, patience_seconds in STOPPING:
        os.kill(child, number)
        time.sleep(patience_seconds)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
