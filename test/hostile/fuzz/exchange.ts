import { connect, constants, type ClientHttp2Session, type OutgoingHttpHeaders } from 'node:http2';
import type { EdgeName } from '../calls.ts';
import { pause, type Turns } from './turns.ts';

/** How a request ended for its client. */
export interface Answer {
  /**
   * 'left': the client gave up a call that may wait; 'reset' and 'closed': the broker ended the
   * stream or the connection without an answer; 'silent': it did neither. 'held': the client ended
   * its connection, and the broker did not.
   */
  readonly ended: 'answered' | 'left' | 'reset' | 'closed' | 'silent' | 'held';
  readonly httpStatus: number | null;
  /** The name of the gRPC code; null where the answer has none. */
  readonly code: string | null;
  readonly reason: string | null;
  /** The message of an error, or the code of a reset. */
  readonly text: string;
}

export interface Exchange {
  readonly edge: EdgeName;
  readonly headers: OutgoingHttpHeaders;
  readonly pieces: readonly Buffer[];
  /**
   * 'answer': the call must end by itself; 'begin': its answer must begin, and then the client
   * leaves it; 'none': it may wait for long, so that the client leaves it soon.
   */
  readonly awaits: 'answer' | 'begin' | 'none';
  /** Whether HTTP/2 itself may refuse the request, with a reset of its stream. */
  readonly mayBeReset: boolean;
  /** Its body is longer than its length, for which Node ends the whole connection at once. */
  readonly endsConnection: boolean;
}

const sessionsPerEdge = 4;
const leaveMs = 60;

const codeNames = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
];

/** HTTP/2 connections to both edges, which many requests share. */
export class Exchanges {
  readonly #ports: Readonly<Record<EdgeName, number>>;
  readonly #sessions = new Map<string, ClientHttp2Session>();
  /** Those of `#sessions`, and those before them that the broker has told to end. */
  readonly #open = new Set<ClientHttp2Session>();
  /** Why a connection ended. */
  readonly #errors = new WeakMap<ClientHttp2Session, string>();
  readonly #turns: Turns;
  #turn = 0;

  constructor(ports: Readonly<Record<EdgeName, number>>, turns: Turns) {
    this.#ports = ports;
    this.#turns = turns;
  }

  close(): void {
    for (const session of this.#open) session.destroy();
  }

  send({ edge, headers, pieces, awaits, mayBeReset, endsConnection }: Exchange): Promise<Answer> {
    return new Promise((resolve) => {
      // Node ends a connection after a hundred of these; see `http2InvalidFramesMax`.
      const isAlone = mayBeReset || endsConnection;
      const session = isAlone ? this.#connect(edge) : this.#session(edge);
      const stream = session.request(headers);
      const seen: Record<string, unknown> = {};
      const chunks: Buffer[] = [];
      let ended: Answer['ended'] = 'closed';
      const leave = (how: Answer['ended']) => () => {
        ended = how;
        stream.close(constants.NGHTTP2_CANCEL);
      };
      const done = new AbortController();
      const leaveSoon = (): void => {
        void pause(leaveMs, done.signal).then(() => {
          if (!done.signal.aborted) leave('left')();
        });
      };
      if (awaits === 'none') leaveSoon();
      void this.#turns.silence(done.signal).then(() => {
        if (!done.signal.aborted) leave('silent')();
      });
      stream.on('error', () => undefined);
      const note = (got: object): void => {
        Object.assign(seen, got);
      };
      stream.on('response', note).on('trailers', note);
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.once('response', () => {
        if (awaits === 'begin') leaveSoon();
      });
      stream.once('end', () => {
        if (ended === 'closed' && seen[':status'] !== undefined) ended = 'answered';
      });
      stream.once('close', () => {
        done.abort();
        // Without a body Node ends some answers without an event.
        const isWhole = seen[':status'] !== undefined && stream.rstCode === constants.NGHTTP2_NO_ERROR;
        if (ended === 'closed' && !session.destroyed) ended = isWhole ? 'answered' : 'reset';
        resolve({ ended, ...contentOf(seen, chunks, `reset ${stream.rstCode} ${this.#errors.get(session) ?? ''}`) });
        if (isAlone) session.destroy();
      });
      for (const piece of pieces) stream.write(piece);
      stream.end();
    });
  }

  #session(edge: EdgeName): ClientHttp2Session {
    this.#turn = (this.#turn + 1) % sessionsPerEdge;
    const name = `${edge} ${this.#turn}`;
    const open = this.#sessions.get(name);
    if (open !== undefined && !open.closed && !open.destroyed) return open;
    const session = this.#connect(edge);
    this.#sessions.set(name, session);
    return session;
  }

  #connect(edge: EdgeName): ClientHttp2Session {
    const session = connect(`http://127.0.0.1:${this.#ports[edge]}`);
    session.on('error', (error: Error) => this.#errors.set(session, error.message));
    session.on('goaway', (code) => this.#errors.set(session, `GOAWAY ${code}`));
    this.#open.add(session);
    session.once('close', () => this.#open.delete(session));
    return session;
  }
}

type Content = Pick<Answer, 'httpStatus' | 'code' | 'reason' | 'text'>;

function contentOf(seen: Readonly<Record<string, unknown>>, chunks: readonly Buffer[], reset: string): Content {
  const httpStatus = seen[':status'] === undefined ? null : Number(seen[':status']);
  const type = String(seen['content-type']);
  if (seen['grpc-status'] !== undefined) return { httpStatus, ...grpcContent(seen) };
  const body = Buffer.concat(chunks);
  if (type.startsWith('application/grpc-web')) return { httpStatus, ...webContent(body) };
  if (type.startsWith('application/connect+')) return { httpStatus, ...connectStreamContent(body) };
  if (httpStatus === 200) return { httpStatus, code: 'OK', reason: null, text: '' };
  const reason = textOrNull(seen['millrace-reason']);
  if (!type.startsWith('application/json')) return { httpStatus, code: null, reason, text: body.toString() || reset };
  return { httpStatus, ...connectError(jsonOf(body), reason) };
}

function grpcContent(seen: Readonly<Record<string, unknown>>): Omit<Content, 'httpStatus'> {
  const code = codeNames[Number(seen['grpc-status'])] ?? String(seen['grpc-status']);
  return { code, reason: textOrNull(seen['millrace-reason']), text: textOrNull(seen['grpc-message']) ?? '' };
}

/** Of gRPC-Web the trailers are the last message. */
function webContent(body: Buffer): Omit<Content, 'httpStatus'> {
  const trailers = lastMessage(body, 0x80)?.toString() ?? '';
  const valueOf = (name: string): string | undefined => new RegExp(`^${name}: ?(.*)\r$`, 'im').exec(trailers)?.[1];
  return grpcContent({
    'grpc-status': valueOf('grpc-status'),
    'grpc-message': valueOf('grpc-message'),
    'millrace-reason': valueOf('millrace-reason'),
  });
}

function connectStreamContent(body: Buffer): Omit<Content, 'httpStatus'> {
  const last = lastMessage(body, 2);
  if (last === null) return { code: null, reason: null, text: 'the stream has no last message' };
  const { error, metadata } = jsonOf(last) as { error?: object; metadata?: Record<string, string[]> };
  if (error === undefined) return { code: 'OK', reason: null, text: '' };
  return connectError(error, textOrNull(metadata?.['millrace-reason']?.[0]));
}

/** The paths of operators have their reason in the body. */
function connectError(error: unknown, reason: string | null): Omit<Content, 'httpStatus'> {
  const { code, message, reason: own } = (error ?? {}) as { code?: string; message?: string; reason?: string };
  const name = code === 'canceled' ? 'CANCELLED' : (code?.toUpperCase() ?? null);
  return { code: name, reason: reason ?? own ?? null, text: message ?? '' };
}

function lastMessage(body: Buffer, flags: number): Buffer | null {
  for (let at = 0; at + 5 <= body.length;) {
    const end = at + 5 + body.readUInt32BE(at + 1);
    if (body[at] === flags) return body.subarray(at + 5, end);
    at = end;
  }
  return null;
}

function jsonOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return null;
  }
}

function textOrNull(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}
