"""Reading the requests and answers of model providers."""
