import type { OutgoingHttpHeaders } from 'node:http2';
import { fromBinary, fromJson, toBinary, type DescMethod, type JsonValue, type Message } from '@bufbuild/protobuf';
import { mayWait, methodsOfEdge, type EdgeName } from '../calls.ts';
import type { Exchange } from './exchange.ts';
import type { Json, Messages } from './messages.ts';
import { oddJson, type MutationBook } from './mutations.ts';
import type { CaseRandom } from './random.ts';

/** What the cases of one run are made of. */
export interface Sources {
  readonly messages: Messages;
  readonly book: MutationBook;
}

const streamedMax = 3;

/** Valid protobuf with mutated bytes, in every protocol of both edges. */
export function protobufCase({ messages, book }: Sources, index: number, random: CaseRandom): Exchange {
  const edge = random.pick(['grpc', 'http'] as const);
  const method = random.pick(methodsOfEdge[edge]);
  const bodies = bodiesOf(method, random, () => {
    return book.mutate(binaryOf(method, messages.message(method.input, random)), index, random);
  });
  return exchangeOf(edge, method, contentTypeOf(edge, method, 'proto', random), bodies);
}

/** JSON whose values or bytes are wrong, in every protocol of the HTTP edge. */
export function jsonCase({ messages, book }: Sources, index: number, random: CaseRandom): Exchange {
  const method = random.pick(methodsOfEdge.http);
  const bodies = bodiesOf(method, random, () => {
    const message = messages.message(method.input, random);
    const text = random.chance(0.6) ? oddJson(message, random) : JSON.stringify(message);
    const bytes = Buffer.from(text);
    return random.chance(0.5) ? bytes : book.mutate(bytes, index, random);
  });
  return exchangeOf('http', method, contentTypeOf('http', method, 'json', random), bodies);
}

export function exchangeOf(
  edge: EdgeName,
  method: DescMethod,
  contentType: string,
  bodies: readonly Buffer[],
): Exchange {
  const isBare = !/grpc|connect/.test(contentType);
  const headers: OutgoingHttpHeaders = {
    ':method': 'POST',
    ':path': `/${method.parent.typeName}/${method.name}`,
    'content-type': contentType,
    te: 'trailers',
  };
  const pieces = isBare ? bodies : bodies.map((body) => enveloped(body));
  const awaits = awaited(method, bodies[0] ?? Buffer.alloc(0), /json/.test(contentType));
  return { edge, headers, pieces, awaits, mayBeReset: false, endsConnection: false };
}

/** What must come for a request that is complete, of which `body` is the first message. */
function awaited(method: DescMethod, body: Buffer, isJson: boolean): Exchange['awaits'] {
  if (method.methodKind === 'server_streaming') return 'begin';
  // The client has ended its side of the streams of both sides.
  if (method.methodKind !== 'unary' || !mayWait(method)) return 'answer';
  try {
    const { input } = method;
    const message = isJson ? fromJson(input, JSON.parse(body.toString()) as JsonValue) : fromBinary(input, body);
    return waitOf(message) === 0 ? 'answer' : 'none';
  } catch {
    return 'answer';
  }
}

/** A Pull without a time answers at once, and a SyncGroup waits then. */
function waitOf(message: Message & { readonly wait?: { readonly seconds: bigint; readonly nanos: number } }): number {
  const { wait } = message;
  if (wait === undefined) return message.$typeName === 'millrace.v1.PullRequest' ? 0 : Infinity;
  return Math.max(0, Number(wait.seconds) + wait.nanos / 1e9);
}

export function contentTypeOf(edge: EdgeName, method: DescMethod, format: string, random: CaseRandom): string {
  if (edge === 'grpc') return 'application/grpc';
  const ofConnect = method.methodKind === 'unary' ? `application/${format}` : `application/connect+${format}`;
  // gRPC-Web has no streams of requests.
  const web = method.methodKind === 'bidi_streaming' ? ofConnect : `application/grpc-web+${format}`;
  return random.pick([ofConnect, ofConnect, web, `application/grpc+${format}`]);
}

export function binaryOf({ input }: DescMethod, message: Json): Buffer {
  try {
    return Buffer.from(toBinary(input, fromJson(input, message as JsonValue)));
  } catch {
    // A value that no message can have.
    return Buffer.alloc(0);
  }
}

export function enveloped(body: Buffer, flags = 0, length = body.length): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flags;
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, body]);
}

function bodiesOf({ methodKind }: DescMethod, random: CaseRandom, body: () => Buffer): Buffer[] {
  const count = methodKind === 'bidi_streaming' || methodKind === 'client_streaming' ? random.int(streamedMax + 1) : 1;
  return Array.from({ length: count }, body);
}
