"""Discrete events of many replicas and users, with service times that were measured."""
