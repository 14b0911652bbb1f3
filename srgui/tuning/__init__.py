"""From a folder of pictures to an adapter, or to a whole model, with an honest card: what ``train`` and the Train tab do."""
