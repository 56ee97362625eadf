import { EventEmitter } from 'node:events';
import type { Http2Session, ServerHttp2Stream } from 'node:http2';
import { expect, test } from 'vitest';
import type { Account } from '../../../src/account/account.ts';
import { AnswerRoom } from '../../../src/rpc/answers/answer-room.ts';
import { callerOf } from '../../../src/rpc/edge/caller.ts';
import { OpenCall, OpenCalls } from '../../../src/rpc/grpc/open-call.ts';
import { OpenAnswer } from '../../../src/rpc/http/open-answer.ts';
import type { NodeResponse } from '../../../src/rpc/requests/universal-response.ts';
import { smallAccount } from '../../account/accounts.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const bytes = 1_000;

interface Reader {
  readonly reserve: (bytes: number) => Promise<void> | null;
  readonly worked: () => void;
  /** Destroys the call, as the loss of its connection does, before it closes. */
  readonly lose: () => void;
  /** Ends the call, and then its connection. */
  readonly leave: () => void;
}

const edges: Record<string, (account: Account, clock: FakeClock) => () => Reader> = {
  gRPC: (account, clock) => {
    const calls = new OpenCalls(clock);
    return () => {
      const owner = account.owner();
      const [streams, bodies, answers] = [owner.kind('streams'), owner.kind('bodies'), owner.kind('answers')];
      const decoded = owner.kind('decoded');
      const stream = Object.assign(new EventEmitter(), { destroyed: false }) as unknown as ServerHttp2Stream;
      const session = { destroyed: true } as Http2Session;
      OpenCall.begin(stream, { session, caller: callerOf('::1'), streams, bodies, answers, decoded }, calls);
      const call = OpenCall.ofStream(stream);
      const lose = () => Object.assign(stream, { destroyed: true });
      const leave = () => {
        lose();
        stream.emit('close');
        owner.close();
      };
      return { reserve: (more) => call.reserve(more), worked: call.worked.bind(call), lose, leave };
    };
  },
  HTTP: (account, clock) => {
    const room = new AnswerRoom(clock);
    return () => {
      const owner = account.owner();
      const response = Object.assign(new EventEmitter(), { destroyed: false }) as unknown as NodeResponse;
      const answer = new OpenAnswer(owner.kind('answers'), room, response, false);
      const lose = () => Object.assign(response, { destroyed: true });
      const leave = () => {
        lose();
        response.emit('close');
        owner.close();
      };
      return { reserve: (more) => answer.reserve(more), worked: answer.worked.bind(answer), lose, leave };
    };
  },
};

test.each(Object.keys(edges))(
  'work goes on when its client leaves, so its bytes stay counted and the next call waits: %s',
  async (edge) => {
    const clock = new FakeClock();
    const account = smallAccount({ answers: bytes });
    const reader = edges[edge]!(account, clock);
    const [first, second] = [reader(), reader()];
    expect(first.reserve(bytes)).toBeNull();
    let begun = false;
    const waiting = second.reserve(bytes)?.then(() => (begun = true));
    first.leave();
    await clock.settle();
    expect([begun, account.kind('answers').bytes]).toEqual([false, bytes]);
    first.worked();
    await clock.settle();
    await waiting;
    expect([begun, account.kind('answers').bytes]).toEqual([true, bytes]);
    second.worked();
    second.worked();
    second.leave();
    expect(account.kind('answers').bytes).toBe(0);
  },
);

test.each(Object.keys(edges))(
  'a call whose connection was lost does no work, so the next one has its room: %s',
  async (edge) => {
    const clock = new FakeClock();
    const account = smallAccount({ answers: bytes });
    const reader = edges[edge]!(account, clock);
    const [first, lost, third] = [reader(), reader(), reader()];
    expect(first.reserve(bytes)).toBeNull();
    const refused = expect(lost.reserve(bytes)).rejects.toMatchObject({
      reason: expect.stringMatching(/_BUSY$/) as string,
    });
    const waiting = third.reserve(bytes);
    lost.lose();
    first.worked();
    first.leave();
    await clock.settle();
    await Promise.all([refused, waiting]);
    lost.leave();
    expect(account.kind('answers').bytes).toBe(bytes);
    third.worked();
    third.leave();
    expect(account.kind('answers').bytes).toBe(0);
    expect(() => third.reserve(bytes)).toThrow();
  },
);
