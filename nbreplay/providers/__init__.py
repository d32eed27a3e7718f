"""Reading requests and answers of model providers, whoever wrote them."""
