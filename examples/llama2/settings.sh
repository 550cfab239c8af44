# 4,096 to 32,768 tokens: eight times is what LongRoPE (arXiv 2402.13753) reaches without fine-tuning. The paper goes to
# 256k and 2048k with models that were fine-tuned on the factors. Gated: accept the licence on the model's page.
FAMILY_MODEL=meta-llama/Llama-2-7b-hf
FAMILY_TARGET_LENGTH=32768
FAMILY_RECIPE=longrope-llama2
FAMILY_EXTENSION=llama2-2048k
