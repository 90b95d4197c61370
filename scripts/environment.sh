# Makes a virtual environment with nemo_bias and all that it needs, once. Sourced by the scripts beside it.
#   NEMO_BIAS_VENV  where (default: ~/.cache/nemo_bias/venv)
#   TORCH           what pip installs for PyTorch first, e.g. another build (default: torch==2.13.0)
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${NEMO_BIAS_VENV:-$HOME/.cache/nemo_bias/venv}
python3 -c 'import sys, tarfile; sys.exit(sys.version_info < (3, 10) or not hasattr(tarfile, "data_filter"))' || {
    echo "$(command -v python3) is $(python3 --version); NeMo needs 3.10.12, 3.11.4 or newer to unpack checkpoints" >&2
    exit 1
}
export PIP_DISABLE_PIP_VERSION_CHECK=1

install_nemo_bias() { # install_nemo_bias EXTRA: pip-installs this checkout with an optional extra, unless that is done
    local extra=$1 mark
    mark="$venv/.nemo_bias_$extra"
    if [ -f "$mark" ] && [ "$(cat "$mark")" = "$repository $(cksum <"$repository/pyproject.toml")" ]; then return; fi
    echo "Setting up $venv (some minutes, once) ..."
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "${TORCH:-torch==2.13.0}"
    "$venv/bin/pip" install --quiet --editable "$repository${extra:+[$extra]}"
    echo "$repository $(cksum <"$repository/pyproject.toml")" >"$mark"
}
