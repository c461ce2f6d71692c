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
# Argument: a group of further packages in setup.py, such as test.
install() {
    local group="${1:-}" needed='import sys; sys.exit(sys.version_info < (3, 11, 4))'
    if ! "$python" -c "$needed"; then
        echo "error: $("$python" --version) is too old: use Python 3.11.4 or newer" >&2
        exit 2
    fi
    if [ ! -x "$environment/bin/python" ]; then
        "$python" -m venv "$environment"
    fi
    python="$environment/bin/python"
    local stamp="$environment/.prompt-learning-installed" project="$root${group:+[$group]}"
    if [ ! -e "$stamp${group:+-$group}" ] || [ "$root/setup.py" -nt "$stamp${group:+-$group}" ]; then
        echo "Installing into $environment (a few minutes, once)"
        if "$python" -m pip --version >/dev/null 2>&1; then
            "$python" -m pip install --quiet --disable-pip-version-check --editable "$project"
        elif command -v uv >/dev/null; then # uv makes environments without pip
            uv pip install --quiet --python "$python" --editable "$project"
        else
            echo "error: $environment has no pip, and there is no uv: install one of them" >&2
            exit 2
        fi
        touch "$stamp" "$stamp${group:+-$group}"
    fi
}
