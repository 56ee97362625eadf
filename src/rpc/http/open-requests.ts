import type { Http2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { Account } from '../../account/account.ts';
import type { OwnedKind } from '../../account/owner.ts';
import { present } from '../../errors/present.ts';
import { connectionBusy } from '../../errors/rejections/broker.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import { AnswerRoom } from '../answers/answer-room.ts';
import { Deadlines } from '../../time/deadlines.ts';
import type { NodeRequest } from '../requests/request-body.ts';
import { OpenAnswer } from './open-answer.ts';
import type { NodeResponse } from '../requests/universal-response.ts';

interface Connection {
  /** Responses that are not closed; over HTTP/1.1 they may wait in line. */
  readonly open: Set<NodeResponse>;
  readonly bodies: OwnedKind;
  readonly answers: OwnedKind;
  /** A handler may keep its request longer than the connection lasts. */
  readonly decoded: OwnedKind;
}

/** The open requests of each connection, and the HTTP/2 connections that have none. */
export class OpenRequests {
  readonly #account: Account;
  readonly #connections = new WeakMap<Socket | Http2Session, Connection>();
  readonly #idle: Deadlines<Http2Session>;
  readonly #room: AnswerRoom;

  constructor(account: Account, clock: Clock) {
    this.#account = account;
    this.#room = new AnswerRoom(clock);
    this.#idle = new Deadlines(clock, limits.idleConnectionMs, (session) => {
      session.close();
    });
  }

  /** A new connection, of either version. */
  begin(connection: Socket | Http2Session): void {
    const owner = this.#account.owner();
    const open = new Set<NodeResponse>();
    const [bodies, answers] = [owner.kind('bodies'), owner.kind('answers')];
    const decoded = this.#account.owner().kind('decoded');
    this.#connections.set(connection, { open, bodies, answers, decoded });
    if (!isSocket(connection)) this.#idle.begin(connection);
    (connection as Socket).once('close', () => {
      owner.close();
      if (!isSocket(connection)) this.#idle.over(connection);
      // Behind a CONNECT, Node forgets the responses that wait in line, and their calls go on.
      for (const response of open) response.destroy();
    });
  }

  /** Counts a request until its response is closed. @returns why there is no room for it. */
  enter(request: NodeRequest, response: NodeResponse): Rejection | null {
    const key = connectionOf(request);
    const connection = this.#connections.get(key);
    // The connection has gone.
    if (connection === undefined) return null;
    const { open } = connection;
    open.add(response);
    if (!isSocket(key)) this.#idle.over(key);
    response.once('close', () => {
      open.delete(response);
      if (!isSocket(key) && open.size === 0 && !key.destroyed) this.#idle.begin(key);
    });
    if (open.size <= limits.httpConnectionCallsMax) return null;
    return connectionBusy({ kind: 'streams', bytesMax: limits.httpConnectionCallsMax * limits.openHttpCallBytes });
  }

  bodiesOf(request: NodeRequest): OwnedKind {
    return this.#connectionOf(request).bodies;
  }

  decodedOf(request: NodeRequest): OwnedKind {
    return this.#connectionOf(request).decoded;
  }

  answerOf(request: NodeRequest, response: NodeResponse, json: boolean): OpenAnswer {
    return new OpenAnswer(this.#connectionOf(request).answers, this.#room, response, json);
  }

  #connectionOf(request: NodeRequest): Connection {
    return present(this.#connections.get(connectionOf(request)), 'a request that is served has a connection');
  }

  stop(): void {
    this.#room.stop();
    this.#idle.stop();
  }
}

/** HTTP/2 has one session for all requests of a connection. */
function connectionOf(request: NodeRequest): Socket | Http2Session {
  return 'stream' in request ? (request.stream.session as Http2Session) : request.socket;
}

function isSocket(connection: Socket | Http2Session): connection is Socket {
  return 'setNoDelay' in connection;
}
