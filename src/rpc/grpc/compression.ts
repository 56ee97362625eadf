import type { ServerInterceptingCall, ServerInterceptor } from '@grpc/grpc-js';

/** Replaces what grpc-js offers by itself, because the gate refuses compressed requests. */
export const offerNoCompression: ServerInterceptor = (_method, call) => {
  const { sendMetadata } = call;
  call.sendMetadata = (metadata) => {
    metadata.set('grpc-accept-encoding', 'identity');
    sendMetadata.call(call, metadata);
  };
  return call as ServerInterceptingCall;
};
