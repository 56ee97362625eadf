import type { PublishedRecords, PublishStreamToken } from '../../broker/commands.ts';
import { draining } from '../../errors/rejections/broker.ts';
import { limits } from '../../limits/limits.ts';
import { encodePublishResponse } from '../../wire/encode-publish-response.ts';
import { scanPublish } from '../../wire/scan-publish.ts';
import type { HandlerContext } from '../edge/call.ts';

/**
 * One PublishStream: requests go to the broker as they come, answers leave in the order of the
 * requests.
 *
 *   open ──finish──▶ finishing ──last answer──▶ ended (well)
 *    │  └──drain───▶ draining ───last answer──▶ ended (DRAINING)
 *    └──a request fails, once those before it are answered──▶ ended (its error)
 *
 * 1. Requests reach the broker in the order in which they came.
 * 2. Nothing that came after a failed request is appended. The committer knows by the token that a
 *    request of the stream failed, and rejects the later ones in its queue; and once one has
 *    failed, this stream takes no more. Earlier requests are not affected.
 * 3. At most `publishStreamPendingMax` requests and `publishStreamPendingBytesMax` bytes (and one
 *    request more) are unanswered. An answer counts until the transport has taken it, so a client
 *    that does not read stops the reading.
 */
export class PublishStream {
  readonly #context: HandlerContext;
  readonly #output: PublishStreamOutput;
  readonly #token: PublishStreamToken = { failure: null };
  readonly #queue: PendingPublish[] = [];
  #state: 'open' | 'finishing' | 'draining' | 'ended' = 'open';
  #answering = false;
  #pendingCount = 0;
  #pendingBytes = 0;
  #paused = false;

  constructor(context: HandlerContext, output: PublishStreamOutput) {
    this.#context = context;
    this.#output = output;
  }

  receive(request: Buffer): void {
    // Later requests still go to the broker, which rejects them: with ack mode NONE the client
    // learns of the failure in no other way.
    if (this.#state !== 'open' || this.#token.refused !== undefined) return;
    this.#take(this.#publish(request), request.length);
  }

  /** A message that is not a request counts as a failed request. */
  refuse(error: Error): void {
    if (this.#state !== 'open' || this.#token.refused !== undefined) return;
    this.#token.refused = error;
    this.#take(Promise.reject(error), 0);
  }

  /** The client has sent its last request. */
  finish(): void {
    this.#close('finishing');
  }

  /** The broker is shutting down: it answers the received requests, then the stream ends. */
  drain(): void {
    this.#close('draining');
  }

  /** The client has gone or cancelled. Received requests may still be appended. */
  closed(): void {
    this.#state = 'ended';
  }

  #take(answer: PendingPublish['answer'], bytes: number): void {
    answer.catch((error: unknown) => {
      this.#token.refused ??= error as Error;
    });
    this.#queue.push({ answer, bytes });
    this.#pendingCount += 1;
    this.#pendingBytes += bytes;
    this.#balance();
    void this.#answerAll();
  }

  #publish(request: Buffer): Promise<PublishedRecords | null> {
    try {
      const command = scanPublish(request, this.#context, this.#token);
      return this.#context.services().broker.publish(command);
    } catch (error) {
      const refusal = error as Error;
      this.#token.refused ??= refusal;
      return Promise.reject(refusal);
    }
  }

  #close(state: 'finishing' | 'draining'): void {
    if (this.#state !== 'open') return;
    this.#state = state;
    void this.#answerAll();
  }

  async #answerAll(): Promise<void> {
    if (this.#answering) return;
    this.#answering = true;
    for (let pending = this.#queue[0]; pending !== undefined; pending = this.#queue[0]) {
      try {
        const response = encodePublishResponse(await pending.answer);
        this.#respond(response, pending.bytes);
      } catch (error) {
        this.#end(error);
        return;
      }
      this.#queue.shift();
    }
    this.#answering = false;
    // Requests with ack mode NONE were answered before their append, which may have failed since.
    if (this.#token.failure !== null) this.#end(this.#token.failure);
    if (this.#state === 'finishing') this.#end(null);
    if (this.#state === 'draining') this.#end(draining('publish'));
  }

  #respond(response: Buffer, requestBytes: number): void {
    if (this.#state === 'ended') return;
    const { length } = response;
    this.#output.respond(response, () => {
      this.#output.taken?.(length);
      this.#pendingCount -= 1;
      this.#pendingBytes -= requestBytes;
      this.#balance();
    });
  }

  #balance(): void {
    const full =
      this.#pendingCount >= limits.publishStreamPendingMax || this.#pendingBytes >= limits.publishStreamPendingBytesMax;
    if (full === this.#paused || this.#state === 'ended') return;
    this.#paused = full;
    if (full) this.#output.pause();
    else this.#output.resume();
  }

  #end(error: unknown): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#output.end(error);
  }
}

interface PendingPublish {
  readonly answer: Promise<PublishedRecords | null>;
  readonly bytes: number;
}

/** The transport's end of a PublishStream. */
export interface PublishStreamOutput {
  /** `taken` is called when the transport has handed the response to its socket. */
  respond(response: Buffer, taken: () => void): void;
  /** The transport has handed so many bytes of a response to its socket. */
  taken?(bytes: number): void;
  /** Ends the stream with an error, or well (null). */
  end(error: unknown): void;
  /** Stops reading requests; a few more may still come. */
  pause(): void;
  resume(): void;
}
