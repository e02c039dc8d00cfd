from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from anyio.from_thread import BlockingPortal

from jwks_guard import ConfigurationError
from jwks_guard.base.portal import process_portal
from tests.process.programs import run_to_end
from tests.support import PATIENCE


def python(script: str) -> str:
    """What `script` prints in a process of its own, which has to end well."""
    done = run_to_end([sys.executable, "-c", script])
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_all_threads_share_one_portal() -> None:
    process_portal.stop()
    together = threading.Barrier(8)

    def get(_: int) -> BlockingPortal:
        together.wait(PATIENCE)
        return process_portal.get()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(get, range(8)))) == 1


def test_the_portal_runs_in_a_daemon_thread_that_says_whose_it_is() -> None:
    thread = process_portal.get().call(threading.current_thread)
    assert thread.daemon
    assert thread.name == "jwks-guard"


def test_a_stopped_portal_has_ended_and_the_next_use_starts_another() -> None:
    first = process_portal.get()
    thread = first.call(threading.current_thread)
    process_portal.stop()
    process_portal.stop()
    assert not thread.is_alive()
    assert process_portal.get() is not first
    assert process_portal.get().call(threading.get_ident) != threading.get_ident()


def test_the_end_of_the_interpreter_prints_no_traceback() -> None:
    printed = python(
        "import asyncio\n"
        "from jwks_guard.base.portal import process_portal\n"
        "print(process_portal.get().call(asyncio.to_thread, int))\n"  # the loop has an executor now
    )
    assert printed == "0\n"


def test_after_the_end_of_the_main_thread_a_verifier_raises_errors_of_this_library() -> None:
    printed = python(
        "import logging, threading\n"
        "from jwks_guard import JWKSGuardError, SyncTokenVerifier\n"
        "logging.disable()\n"  # a fetch that fails is a line in the log
        "verifier = SyncTokenVerifier('https://127.0.0.1:1/', 'api')\n"
        "def verify():\n"
        "    threading.main_thread().join()\n"
        "    try:\n"
        "        verifier.verify('eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.e30.AAAA')\n"
        "    except JWKSGuardError as error:\n"
        "        print(error.http_status in (500, 503))\n"
        "threading.Thread(target=verify).start()\n"
    )
    assert printed == "True\n"


def test_a_portal_that_can_not_start_says_why_and_starts_when_it_can() -> None:
    printed = python(
        "import resource\n"
        "from jwks_guard.base.portal import process_portal\n"
        "_, most = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))\n"
        "try:\n"
        "    process_portal.get()\n"
        "except OSError as error:\n"
        "    print(error.strerror)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))\n"
        "print(process_portal.get().call(lambda: 'started'))\n"
    )
    assert printed.splitlines() == ["Too many open files", "started"]


def test_a_process_whose_portal_runs_ends_by_itself() -> None:
    printed = python(
        "from jwks_guard.base.portal import process_portal\n"
        "print(process_portal.get().call(lambda: 'called'))\n"
    )
    assert printed.strip() == "called"


def test_a_callback_on_its_loop_gets_an_error_instead_of_waiting_for_itself() -> None:
    def callback() -> None:
        with pytest.raises(ConfigurationError, match="from another thread"):
            process_portal.get()

    process_portal.get().call(callback)
