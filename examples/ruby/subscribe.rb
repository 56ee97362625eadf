# subscribe.rb [TOPIC] [GROUP] [COUNT]: prints COUNT records (default: for ever) and acks them.

require_relative 'client'

class Consumer
  def initialize(topic, group, wanted)
    @broker = connect(Millrace::V1::BrokerService)
    @topic, @group, @wanted = topic, group, wanted
  end

  # Streams until enough has come; subscribes again when the stream breaks.
  def run
    wait = 0.1
    while @wanted.positive?
      begin
        subscribe
        wait = 0.1
      rescue GRPC::Unavailable, GRPC::Aborted => e
        # UNAVAILABLE: the broker or its database is away for now. ABORTED: this member was replaced or
        # removed. Subscribe again, as a new member; the broker delivers again what was not acked.
        puts "#{reason(e)}: #{e.details}; again in #{wait} s"
        sleep wait
        wait = [wait * 2, 5].min
      end
    end
  end

  private

  # One stream, until it ends or enough has come.
  def subscribe
    request = Millrace::V1::SubscribeRequest.new(
      group: @group,
      topics: [@topic],
      start: Millrace::V1::StartPosition.new(earliest: Millrace::V1::StartPosition::Earliest.new),
      max_in_flight_records: 1000
    )
    # With return_op the call can be cancelled: leaving the loop alone does not end the stream.
    operation = @broker.subscribe(request, return_op: true)
    operation.execute.each do |event|
      take(event)
      break unless @wanted.positive?
    end
  ensure
    operation&.cancel
  end

  def take(event)
    case event.event
    when :joined
      @member_id = event.joined.member_id
      puts "joined as #{@member_id}"
    when :assigned
      puts "partitions: #{event.assigned.partitions.map(&:partition).join(' ')}"
    when :batch
      handle(event.batch)
      ack(event.batch, event.generation)
      @wanted -= event.batch.records.length
    when :revoking
      # Acking what is in flight, as above, is all that is needed.
      puts "leaving partitions: #{event.revoking.partitions.map(&:partition).join(' ')}"
    when :idle
      puts "idle: #{event.idle.blocked_on}, lag #{event.idle.lag}"
    when :gap
      # The retention of the topic has dropped records that the group had not acked.
      puts "records #{event.gap.first} to #{event.gap.last} are gone"
    when :draining
      puts 'the broker is going away; subscribing again when it ends the stream'
    end
  end

  # Your work. It may see a record again after a crash.
  def handle(batch)
    batch.records.each do |delivered|
      record = delivered.record
      where = "#{batch.topic}/#{batch.partition} #{delivered.offset} (attempt #{delivered.attempt})"
      puts "#{where} #{record.key}: #{record.value}"
    end
  end

  # Names exactly the records of the batch, in one entry with its partition and lane.
  def ack(batch, generation)
    offsets = batch.records.map(&:offset)
    entry = Millrace::V1::AckEntry.new(
      topic: batch.topic, partition: batch.partition, lane: batch.lane, offsets: offsets
    )
    request = Millrace::V1::AckRequest.new(
      group: @group, member_id: @member_id, generation: generation, acks: [entry]
    )
    @broker.ack(request).results.each do |result|
      # The partition has moved to another member meanwhile, which gets the records again.
      puts "ack refused: #{result.status}" unless result.status == :ACK_STATUS_OK
    end
  end
end

Consumer.new(ARGV[0] || 'orders', ARGV[1] || 'billing', Float(ARGV[2] || Float::INFINITY)).run
