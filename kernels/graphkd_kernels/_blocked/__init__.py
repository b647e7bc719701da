"""Operations in plain PyTorch with derivatives of their own: memory of the inputs, blocks of the size of a cache."""
