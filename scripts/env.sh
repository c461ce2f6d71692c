# To be sourced. Sets `root` (the project) and `python` (of the active environment, or else of .venv). Defines `install`.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ -n "${VIRTUAL_ENV:-}" ]; then
    environment="$VIRTUAL_ENV"
elif [ -n "${CONDA_PREFIX:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" != base ]; then
    environment="$CONDA_PREFIX"
else
    environment="$root/.venv"
fi
python="$environment/bin/python"
if [ ! -x "$python" ]; then
    python=python3 # no environment yet
fi

# Make .venv if there is no environment. Install the packages that setup.py lists, again whenever setup.py changes.
install() {
    if [ ! -x "$environment/bin/python" ]; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, python3 is " + sys.version.split()[0])'
        python3 -m venv "$environment"
    fi
    python="$environment/bin/python"
    local stamp="$environment/.prompt-learning-installed"
    if [ ! -e "$stamp" ] || [ "$root/setup.py" -nt "$stamp" ]; then
        echo "Installing into $environment (a few minutes, once)"
        "$python" -m pip install --quiet --disable-pip-version-check --editable "$root[test]"
        touch "$stamp"
    fi
}
