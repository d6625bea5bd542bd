# Sourced by the Makefile and .ci/run from the repository's root. Sets UV to a working uv and defines use_python.

# Under some version managers a command of that name exists and fails, so it is run, not only looked up.
if uv --version >/dev/null 2>&1; then
  UV=uv
else
  UV=.venv-uv/bin/uv
  if ! "$UV" --version >/dev/null 2>&1; then
    echo "uv is missing: fetching it from PyPI into .venv-uv/" >&2
    here=$PWD
    rm -rf .venv-uv
    # In / because here .python-version may name a Python that pyenv lacks, and then python3 fails. Some
    # distributions ship python3 without venv; pip --target does the same there.
    (cd / && python3 -m venv "$here/.venv-uv" && "$here/.venv-uv/bin/python" -m pip install --quiet uv) >&2 ||
      (cd / && rm -rf "$here/.venv-uv" && python3 -m pip install --quiet --target "$here/.venv-uv" uv) >&2 ||
      { echo "could not fetch uv: install it (https://docs.astral.sh/uv/) and try again" >&2; exit 1; }
  fi
fi

# use_python VERSION...: makes uv use the first of these versions that is on this machine. Where none is,
# uv downloads the first one. Exported, because .python-version would otherwise win in `uv run`.
use_python() {
  UV_PYTHON=$1
  for version in "$@"; do
    if python=$("$UV" python find --system --no-python-downloads "$version" 2>/dev/null); then
      UV_PYTHON=$python
      break
    fi
    # uv misses a version that only pyenv knows: pyenv's shim for it fails unless the version is selected.
    for python in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
      if "$python" --version >/dev/null 2>&1; then
        UV_PYTHON=$python
        break 2
      fi
    done
  done
  export UV_PYTHON
}
