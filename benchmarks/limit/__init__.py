"""The ceiling: what a durable engine could do at most in one Python process, were it nothing but a log and generators."""
