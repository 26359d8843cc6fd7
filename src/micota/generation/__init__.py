"""Engines that generate: transformers, vLLM, servers, and public fakes of them."""
