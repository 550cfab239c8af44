# 16,384 to 65,536 tokens. Phi-4 is the model of the Phi-3 architecture that has neither a scaling nor a sliding window:
# Phi-3-mini-4k attends to 2,047 tokens, which hides any extension and is refused; Phi-3-mini-128k has LongRoPE factors
# already, and MODEL= it gets twice its length, which is its window.
FAMILY_MODEL=microsoft/phi-4
FAMILY_TARGET_LENGTH=65536
FAMILY_RECIPE=longrope2-mixed-16k
FAMILY_EXTENSION=phi4-64k
