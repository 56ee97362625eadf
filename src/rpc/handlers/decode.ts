import { fromBinary, fromJsonString, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { Rejection } from '../../errors/rejection.ts';
import { limits } from '../../limits/limits.ts';

/** The bytes of a request become its message here, on both edges, so that both refuse bad ones in the same words. */

/** @throws Rejection REQUEST_TOO_LARGE, MALFORMED_REQUEST */
export function decodeBinary<D extends DescMessage>(desc: D, bytes: Uint8Array): MessageShape<D> {
  if (bytes.length > limits.publishBytesMax) throw tooLarge(limits.publishBytesMax);
  try {
    return fromBinary(desc, bytes);
  } catch (error) {
    throw malformed(desc, 'protobuf', error);
  }
}

/** @throws Rejection MALFORMED_REQUEST */
export function decodeJson<D extends DescMessage>(desc: D, json: string): MessageShape<D> {
  try {
    return fromJsonString(desc, json);
  } catch (error) {
    throw malformed(desc, 'JSON', error);
  }
}

export function tooLarge(bytesMax: number): Rejection {
  return new Rejection('REQUEST_TOO_LARGE', `the request is larger than ${bytesMax} bytes`, {
    metadata: { bytesMax: String(bytesMax) },
  });
}

function malformed(desc: DescMessage, format: string, error: unknown): Rejection {
  const why = error instanceof Error ? error.message : String(error);
  return new Rejection('MALFORMED_REQUEST', `not a ${desc.typeName} in ${format}: ${why}`);
}
