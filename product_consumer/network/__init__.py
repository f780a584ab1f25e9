"""The ground of everything that connects or listens.

addresses        URLs and hosts: what can never be one is told before anything connects
named_addresses  the address of each dependency, and the older names of settings
service_links    what Kubernetes writes into variables that have our names
tls              why a connection by TLS fails, and files of certificates
listening        sockets that listen, on IPv4 and IPv6
"""
