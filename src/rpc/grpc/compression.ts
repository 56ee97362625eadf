import type { ServerInterceptingCall, ServerInterceptor } from '@grpc/grpc-js';

/** Replaces what grpc-js offers by itself, because the gate refuses compressed requests. */
export const offerNoCompression: ServerInterceptor = (_method, call) => {
  const send = call.sendMetadata.bind(call);
  call.sendMetadata = (metadata) => {
    metadata.set('grpc-accept-encoding', 'identity');
    send(metadata);
  };
  return call as ServerInterceptingCall;
};
