import { connect, constants, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2';
import type { DescMethod } from '@bufbuild/protobuf';
import { framed } from '../../rpc/raw-call.ts';
import type { Format } from './largest-requests.ts';

/** The forms in which a call reaches the broker. */
export const forms = ['gRPC', 'Connect', 'Connect in JSON'] as const;
export type Form = (typeof forms)[number];

export const formatOf = (form: Form): Format => (form === 'Connect in JSON' ? 'json' : 'proto');

export interface MeasuredAnswer {
  readonly ok: boolean;
  readonly bytes: number;
  /** Of a stream, the largest of its messages. */
  readonly largestBytes: number;
  readonly reason: string;
}

const window = 8_388_608;
/** A stream is ended by its client when it sends nothing more for so long, or nothing at all. */
const quietMs = 50;
const silentMs = 3_000;

/** One connection to each edge. */
export class MeasuredCalls {
  readonly #ports: Readonly<Record<'grpc' | 'http', number>>;
  readonly #sessions = new Map<number, ClientHttp2Session>();

  constructor(ports: Readonly<Record<'grpc' | 'http', number>>) {
    this.#ports = ports;
  }

  close(): void {
    for (const session of this.#sessions.values()) session.destroy();
  }

  send(form: Form, method: DescMethod, body: Buffer): Promise<MeasuredAnswer> {
    const isUnary = method.methodKind === 'unary';
    const isBare = form !== 'gRPC' && isUnary;
    const ofHttp = `application/${isUnary ? '' : 'connect+'}${formatOf(form)}`;
    const stream = this.#session(form === 'gRPC' ? this.#ports.grpc : this.#ports.http).request({
      ':method': 'POST',
      ':path': `/${method.parent.typeName}/${method.name}`,
      'content-type': form === 'gRPC' ? 'application/grpc' : ofHttp,
      te: 'trailers',
    });
    return new Promise((resolve) => {
      const seen: Record<string, string | number | string[] | undefined> = {};
      let bytes = 0;
      const chunks: Buffer[] = [];
      let text = '';
      const leave = (): void => {
        stream.close(constants.NGHTTP2_CANCEL);
      };
      let quiet: NodeJS.Timeout | undefined;
      const waitFor = (ms: number): void => {
        clearTimeout(quiet);
        if (!isUnary) quiet = setTimeout(leave, ms);
      };
      stream.on('error', () => undefined);
      const note = (headers: IncomingHttpHeaders): void => {
        Object.assign(seen, headers);
      };
      stream.on('response', note).on('trailers', note);
      stream.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        chunks.push(chunk);
        if (text.length < 10_000) text += chunk.toString('latin1');
        waitFor(quietMs);
      });
      stream.once('close', () => {
        clearTimeout(quiet);
        // An answer may have a field of that name too.
        const isError = seen[':status'] !== 200 || text.includes('"error":{');
        const inText = isError ? /"reason":"(\w+)"/.exec(text)?.[1] : undefined;
        const reason = String(seen['millrace-reason'] ?? inText ?? '');
        const largestBytes = isBare ? bytes : largestOf(chunks);
        resolve({ ok: reason === '' && seen[':status'] === 200 && bytes > 0, bytes, largestBytes, reason });
      });
      stream.end(isBare ? body : framed(body));
      waitFor(silentMs);
    });
  }

  #session(port: number): ClientHttp2Session {
    const open = this.#sessions.get(port);
    if (open !== undefined && !open.closed && !open.destroyed) return open;
    const session = connect(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: window } });
    session.on('error', () => undefined);
    session.on('connect', () => {
      session.setLocalWindowSize(window);
    });
    this.#sessions.set(port, session);
    return session;
  }
}

/** The largest message, by the prefixes in front of them. */
function largestOf(chunks: readonly Buffer[]): number {
  const all = Buffer.concat(chunks);
  let largest = 0;
  for (let at = 0; at + 5 <= all.length; at += 5 + all.readUInt32BE(at + 1)) {
    largest = Math.max(largest, all.readUInt32BE(at + 1));
  }
  return largest;
}
