# 32,768 to 131,072 tokens. Not v0.1: its sliding window of 4,096 tokens hides any extension, and is refused.
FAMILY_MODEL=mistralai/Mistral-7B-v0.3
FAMILY_TARGET_LENGTH=131072
FAMILY_RECIPE=longrope-mistral
FAMILY_EXTENSION=mistral
