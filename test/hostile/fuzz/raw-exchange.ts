import { connect, type Socket } from 'node:net';
import type { EdgeName } from '../calls.ts';
import type { Answer } from './exchange.ts';
import type { RawCase } from './raw-cases.ts';
import { pause, type Turns } from './turns.ts';

const leaveMs = 250;
/** So often the broker has its turn before a client leaves what is broken. */
const leaveTurns = 5;

/** Sends the bytes, reads the answers, and leaves. */
export async function sendRaw(
  { edge, bytes, protocol, answered, breaks }: RawCase,
  ports: Readonly<Record<EdgeName, number>>,
  turns: Turns,
): Promise<Answer[]> {
  const socket = connect({ port: ports[edge], host: '127.0.0.1', allowHalfOpen: true });
  const closed = new Promise<void>((resolve) => {
    socket.once('end', resolve).once('close', resolve);
  });
  const received = protocol === 'http1' ? new Http1Answers() : new FrameAnswers();
  const complete = new Promise<void>((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      if (received.add(chunk, answered)) resolve();
    });
  });
  socket.on('error', () => undefined);
  await new Promise<void>((resolve) => {
    socket.write(bytes, () => {
      resolve();
    });
  });
  const over = Promise.race([closed.then(() => 'closed' as const), complete.then(() => 'answered' as const)]);
  const done = new AbortController();
  const left = answered === null ? leaves(turns).then(() => 'left' as const) : turns.silence(done.signal);
  let ended: Answer['ended'] = await Promise.race([over, left]);
  if (ended !== 'closed' && !breaks) {
    socket.end();
    const stays = await Promise.race([closed, turns.silence(done.signal)]);
    if (stays === 'silent') ended = 'held';
  }
  done.abort();
  leave(socket);
  return received.answers(ended, answered);
}

async function leaves(turns: Turns): Promise<void> {
  await Promise.all([turns.passed(leaveTurns), pause(leaveMs)]);
}

/**
 * Leaves no address in TIME_WAIT, because a long run would use up all of them. While the FIN is on
 * its way, Node forgets a socket that is reset without closing it, and never ends by itself.
 */
export function leave(socket: Socket): void {
  if (socket.writableEnded && !socket.writableFinished) socket.destroy();
  else socket.resetAndDestroy();
}

/** The heads of the answers of HTTP/1.1. */
class Http1Answers {
  readonly #chunks: Buffer[] = [];

  /** @returns whether so many requests are answered. */
  add(chunk: Buffer, answered: number | null): boolean {
    this.#chunks.push(chunk);
    return answered !== null && this.#heads().length >= answered;
  }

  answers(ended: Answer['ended'], answered: number | null): Answer[] {
    const answers = this.#heads().map(([, status, headers = '']): Answer => {
      const reason = /^millrace-reason: (\w+)/im.exec(headers)?.[1] ?? null;
      return { ...bare('answered'), httpStatus: Number(status), reason };
    });
    const isShort = answered !== null && answers.length < answered;
    if (answers.length > 0 && ended !== 'held' && !isShort) return answers;
    return [...answers, { ...bare(ended), text: isShort ? `${answers.length} of ${answered} requests answered` : '' }];
  }

  #heads(): RegExpExecArray[] {
    const text = Buffer.concat(this.#chunks).toString('latin1');
    return [...text.matchAll(/HTTP\/1\.1 (\d{3}) .*\r\n((?:[\w-]+: .*\r\n)*)/g)];
  }
}

const frameHeadBytes = 9;
const [dataFrame, headersFrame, resetFrame, pingFrame] = [0, 1, 3, 6];

/** The ends of the streams of a connection, and the answer to the ping behind them. */
class FrameAnswers {
  #rest = Buffer.alloc(0);
  #ponged = false;
  readonly #ended = new Set<number>();

  /** @returns whether so many streams, or the ping if null, are answered. */
  add(chunk: Buffer, answered: number | null): boolean {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= frameHeadBytes) {
      const end = frameHeadBytes + this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < end) break;
      this.#frame(this.#rest[3] ?? 0, this.#rest[4] ?? 0, this.#rest.readUInt32BE(5));
      this.#rest = this.#rest.subarray(end);
    }
    return this.#ponged && this.#ended.size >= (answered ?? 0);
  }

  answers(ended: Answer['ended'], answered: number | null): Answer[] {
    const isShort = answered !== null && this.#ended.size < answered;
    return [{ ...bare(ended), text: isShort ? `${this.#ended.size} of ${answered} streams ended` : '' }];
  }

  #frame(type: number, flags: number, stream: number): void {
    const endsStream = type === resetFrame || ((type === dataFrame || type === headersFrame) && (flags & 1) === 1);
    if (endsStream) this.#ended.add(stream);
    if (type === pingFrame && (flags & 1) === 1) this.#ponged = true;
  }
}

function bare(ended: Answer['ended']): Answer {
  return { ended, httpStatus: null, code: null, reason: null, text: '' };
}
