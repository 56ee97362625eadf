import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { closed } from '../../rpc/raw-call.ts';
import { contentTypeOf, pathOf, type EdgeName } from '../calls.ts';
import { bareConnection, callHeaders, frame, sent } from './frames.ts';

const bytesMax = 2_000_000;
const framesAtOnce = 200;
const { pull } = BrokerService.method;

/** Frames of one connection to an edge. */
export interface Flood {
  readonly name: string;
  readonly first: (edge: EdgeName) => Buffer;
  readonly more: (edge: EdgeName, index: number) => Buffer;
}

export const headersOf = (edge: EdgeName): Buffer => callHeaders(pathOf(pull), contentTypeOf(edge, pull));

/** @returns whether the broker ended the connection before all of it was sent. */
export async function flood(port: number, edge: EdgeName, { first, more }: Flood): Promise<boolean> {
  const socket = await bareConnection(port);
  const over = closed(socket.resume());
  socket.write(first(edge));
  let sentBytes = 0;
  for (let index = 0; sentBytes < bytesMax && !socket.destroyed;) {
    const bytes = Buffer.concat(Array.from({ length: framesAtOnce }, () => more(edge, index++)));
    sentBytes += bytes.length;
    await Promise.race([over, sent(socket, bytes)]);
  }
  if (socket.destroyed) return true;
  socket.resetAndDestroy();
  return false;
}

/** The headers of a call that is complete, on the stream of the index. */
export function wholeCall(index: number, headers: Buffer): Buffer {
  return frame(1, 5, 2 * index + 1, headers);
}
