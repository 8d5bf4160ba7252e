"""Publishes each line of stdin as one request: publish.py AMQP_URL EXCHANGE ROUTING_KEY. Prints how many were stored."""

import sys

import pika

url, exchange, key = sys.argv[1:]
parameters = pika.URLParameters(url)
connection = pika.BlockingConnection(parameters)
channel = connection.channel()
channel.confirm_delivery()  # from here on a publish raises unless the broker has routed and stored it

count = 0
for line in sys.stdin:
    properties = pika.BasicProperties(
        content_type="application/json", delivery_mode=2, user_id=parameters.credentials.username, correlation_id=f"line-{count}"
    )
    channel.basic_publish(exchange, key, line.rstrip("\n").encode(), properties, mandatory=True)
    count += 1

connection.close()
print(count)
