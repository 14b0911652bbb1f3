"""LoRun: solvers unrolled into stages, whose one denoiser a small LoRA adapts to each (arXiv 2602.18697)."""
