# 8,192 to 131,072 tokens, as LongRoPE2 (arXiv 2502.20082) extends Llama-3-8B. Gated: accept the licence on the model's
# page. Llama 3.1 and later have 131,072 tokens already, by a scaling that factors compose with: MODEL= them and they get
# twice that, since 16 times would be two million.
FAMILY_MODEL=meta-llama/Meta-Llama-3-8B
FAMILY_TARGET_LENGTH=131072
FAMILY_RECIPE=longrope2-mixed
FAMILY_EXTENSION=llama3-128k
