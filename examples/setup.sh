# Sourced by the examples and the tests, in the root of the checkout: makes .venv from the lock, once, and uses it,
# unless an environment with longrope is active.
if [ -n "${VIRTUAL_ENV:-}" ] && [ -x "$VIRTUAL_ENV/bin/longrope" ]; then
    return # an environment with longrope is active already, e.g. with a torch of your own
fi
if [ ! -e .venv/installed ] || [ requirements.lock -nt .venv/installed ] || [ pyproject.toml -nt .venv/installed ]; then
    echo "installing the locked packages into .venv"
    "${PYTHON:-python3}" -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.lock
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    touch .venv/installed
fi
PATH="$PWD/.venv/bin:$PATH"
