# The connection that both programs use, and the reason of an error. The commands in README.md make gen/.

$LOAD_PATH.unshift File.join(__dir__, 'gen')
$stdout.sync = true

require 'google/protobuf/well_known_types'
require 'google/rpc/error_details_pb'
require 'grpc'
require 'millrace/v1/broker_services_pb'
require 'millrace/v1/topic_services_pb'

# No window is set here: the C core beneath Ruby's gRPC sizes its windows itself.
ADDRESS = ENV.fetch('MILLRACE_ADDRESS', '127.0.0.1:50051')

def connect(service)
  service::Stub.new(ADDRESS, :this_channel_is_insecure)
end

# The reason of google.rpc.ErrorInfo, one of docs/errors.md; nil for an error without one.
def reason(error)
  details = error.to_rpc_status&.details || []
  info = details.find { |detail| detail.is(Google::Rpc::ErrorInfo) }
  info&.unpack(Google::Rpc::ErrorInfo)&.reason
end
