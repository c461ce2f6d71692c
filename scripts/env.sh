# Other scripts source this file. It sets `root`, the project's folder, and defines the function `install`.
# It sets `python` to the Python of the active environment. If none is active, it uses .venv.
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
    python=python3 # there is no environment yet
fi

# Create .venv if there is no environment. Install the packages that setup.py lists, also after setup.py has changed.
install() {
    if [ ! -x "$environment/bin/python" ]; then
# Create .venv if there is no environment. Install the packages that setup.py lists, also after setup.py has changed.
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
