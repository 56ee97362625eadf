import { once } from 'node:events';
import { connect } from 'node:http2';
import type { DescMethod } from '@bufbuild/protobuf';
import { connectRefusal, type ConnectError, type Refusal } from '../../broker/refusal.ts';

/**
 * Sends one message on a stream of the Connect protocol. @returns how the stream ended; null if it
 * ended well.
 */
export async function connectStreamRefusal(
  port: number,
  method: DescMethod,
  body: Buffer,
  format: string,
): Promise<Refusal | null> {
  const session = connect(`http://127.0.0.1:${port}`);
  try {
    const stream = session.request({
      ':method': 'POST',
      ':path': `/${method.parent.typeName}/${method.name}`,
      'content-type': `application/connect+${format}`,
    });
    const head = Buffer.alloc(5);
    head.writeUInt32BE(body.length, 1);
    stream.end(Buffer.concat([head, body]));
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    await once(stream, 'end');
    return lastMessage(Buffer.concat(chunks));
  } finally {
    session.close();
  }
}

function lastMessage(bytes: Buffer): Refusal | null {
  let at = 0;
  while (bytes[at] !== 2) at += 5 + bytes.readUInt32BE(at + 1);
  const end = JSON.parse(bytes.subarray(at + 5).toString()) as { readonly error?: ConnectError };
  return end.error === undefined ? null : connectRefusal(end.error);
}
