"""What answers problems: transformers, vLLM, servers, and public fakes of them."""
