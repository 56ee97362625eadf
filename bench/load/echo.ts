import { Server, ServerCredentials } from '@grpc/grpc-js';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../gen/millrace/v1/group_pb.js';
import { Http2Sessions } from '../../src/rpc/grpc/http2-sessions.ts';
import { methodPath } from '../client/service-client.ts';
import { runLoad } from '../support/load-process.ts';

/**
 * A gRPC server that answers a publish, a join or a heartbeat at once with an empty message. Its
 * rate is the most that the clients and the transport allow on this machine.
 */
export interface EchoSpec {
  readonly port: number;
}

/** The client's half of a method. The type requires it, and a server never uses it. */
const unused = { requestSerialize: (bytes: Buffer) => bytes, responseDeserialize: (bytes: Buffer) => bytes };
const answerOf = (): Buffer => Buffer.alloc(0);

runLoad<EchoSpec, null>(async ({ port }) => {
  const server = new Server({ 'grpc.max_receive_message_length': -1, 'grpc.enable_channelz': 0 });
  const raw = { requestDeserialize: (bytes: Buffer) => bytes, responseSerialize: answerOf };
  const { publish, publishStream, heartbeat } = BrokerService.method;
  const { joinGroup } = GroupService.method;
  const answerNothing = (_call: unknown, answer: (error: null, response: object) => void): void => {
    answer(null, {});
  };
  server.addService(
    {
      Publish: { path: methodPath(publish), requestStream: false, responseStream: false, ...raw, ...unused },
      Heartbeat: { path: methodPath(heartbeat), requestStream: false, responseStream: false, ...raw, ...unused },
      JoinGroup: { path: methodPath(joinGroup), requestStream: false, responseStream: false, ...raw, ...unused },
      PublishStream: { path: methodPath(publishStream), requestStream: true, responseStream: true, ...raw, ...unused },
    },
    {
      Publish: answerNothing,
      Heartbeat: answerNothing,
      JoinGroup: answerNothing,
      PublishStream: (call: {
        on(event: string, listener: () => void): void;
        write(response: object): void;
        end(): void;
      }) => {
        call.on('data', () => {
          call.write({});
        });
        call.on('end', () => {
          call.end();
        });
      },
    },
  );
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) {
        new Http2Sessions(null, null).attach(server);
        resolve();
      } else reject(error);
    });
  });
  return {
    start: () => undefined,
    mark: () => undefined,
    collect: () => null,
    stop: () => {
      server.forceShutdown();
      return Promise.resolve();
    },
  };
});
