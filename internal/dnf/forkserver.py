# Starts dnf's main function in copies of one process that has read dnf's modules,
# which cost a run of dnf a quarter of a second. Messages come on the socket 3: the
# path of a request (JSON: argv, env) with the open files that become stdout and
# stderr. Answers: "ready"; the lines PID and PATH when a copy runs; PID, PATH and
# STATUS when it has ended. It ends when the socket does, or when nobody has asked for a while.
import json
import os
import select
import signal
import socket
import sys
import traceback

import dnf.cli.main
import rpm

IDLE = 5  # seconds


def run(request, stdout, stderr):
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.closerange(3, 256)
    for name in list(os.environ):
        del os.environ[name]
    os.environ.update(request["env"])
    rpm.reloadConfig()  # it was read for another home
    sys.argv = request["argv"]
    return dnf.cli.main.user_main(sys.argv[1:])


def fork(name, files):
    pid = os.fork()
    if pid:
        for f in files:
            os.close(f)
        return pid
    status = 1
    try:
        with open(name) as f:
            request = json.load(f)
        status = run(request, files[0], files[-1])
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status or 0)


def main():
    server = socket.socket(fileno=3)
    wake, signalled = os.pipe()
    os.set_blocking(signalled, False)
    signal.set_wakeup_fd(signalled)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    server.send(b"ready")
    running = {}
    while True:
        ready, _, _ = select.select([server, wake], [], [], None if running else IDLE)
        if not ready:
            return
        if wake in ready:
            os.read(wake, 4096)
            for pid in list(running):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    server.send(b"%d\n%s\n%d" % (pid, running.pop(pid), os.waitstatus_to_exitcode(status)))
        if server in ready:
            name, files, _, _ = socket.recv_fds(server, 8192, 2)
            if not name:
                for pid in running:
                    try:
                        os.killpg(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                return
            pid = fork(name, files)
            running[pid] = name
            server.send(b"%d\n%s" % (pid, name))


main()
