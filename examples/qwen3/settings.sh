# 32,768 to 131,072 tokens: the base model, whose length is that of its training. The chat models say 40,960 in their
# config: MODEL=Qwen/Qwen3-8B with --original-length 32768.
FAMILY_MODEL=Qwen/Qwen3-8B-Base
FAMILY_TARGET_LENGTH=131072
