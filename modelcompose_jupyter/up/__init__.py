"""A document as a service: a host, its run API and its page, looked after by one process."""
