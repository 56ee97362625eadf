import { once } from 'node:events';
import { connect, type ClientHttp2Stream } from 'node:http2';
import { methodPath } from '../../bench/client/service-client.ts';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';

/**
 * A Subscribe in JSON over Connect and HTTP/2, on a connection of its own that ends with it.
 * Resolves when it has had a batch.
 */
export async function subscribeOverConnect(address: string, request: object): Promise<ClientHttp2Stream> {
  const session = connect(`http://${address}`).on('error', () => undefined);
  const stream = session.request({
    ':method': 'POST',
    ':path': methodPath(BrokerService.method.subscribe),
    'content-type': 'application/connect+json',
  });
  stream.on('error', () => undefined).on('close', () => session.destroy());
  const body = JSON.stringify(request);
  stream.end(`\0\0\0\0${String.fromCharCode(body.length)}${body}`);
  for (let text = ''; !text.includes('"batch"');) text += String((await once(stream, 'data'))[0]);
  return stream;
}
