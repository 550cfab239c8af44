# 8,192 to 16,384 tokens: small enough for a CPU.
FAMILY_MODEL=HuggingFaceTB/SmolLM2-135M
FAMILY_TARGET_LENGTH=16384
