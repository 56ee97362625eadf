# publish.rb [TOPIC] [COUNT]: makes the topic if need be and publishes COUNT records.

require 'securerandom'
require_relative 'client'

topic, count = ARGV[0] || 'orders', Integer(ARGV[1] || 10)

begin
  new_topic = Millrace::V1::Topic.new(name: topic, partitions: 6)
  connect(Millrace::V1::TopicService).create_topic(Millrace::V1::CreateTopicRequest.new(topic: new_topic))
rescue GRPC::BadStatus => e
  raise unless reason(e) == 'TOPIC_EXISTS'

  puts "#{reason(e)}: publishing to the topic that exists"
end

# One request is one transaction: all of these records or none. Those of one key stay in order.
records = Array.new(count) do |i|
  Millrace::V1::Record.new(
    key: "customer-#{i % 3}",
    value: "order #{i}",
    headers: { 'type' => 'OrderPlaced' },
    # Makes it safe to send this request again when its outcome is unknown.
    idempotency_key: SecureRandom.uuid
  )
end
request = Millrace::V1::PublishRequest.new(topic: topic, records: records)
connect(Millrace::V1::BrokerService).publish(request).results.each do |result|
  puts "published to #{topic}/#{result.partition} at #{result.offset}"
end
