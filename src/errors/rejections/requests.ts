import { rejection, type FieldViolation, type RejectionOf } from './rejection.ts';

export function invalidField(field: string, description: string): RejectionOf<'INVALID_FIELD'> {
  return invalidFields([{ field, description }]);
}

/** The message names the first of the `violations`. */
export function invalidFields(
  violations: readonly [FieldViolation, ...FieldViolation[]],
): RejectionOf<'INVALID_FIELD'> {
  const [{ field, description }] = violations;
  return rejection('INVALID_FIELD', `${field}: ${description}`, {}, violations);
}

/** `field`: the path of the malformed field, if it is known. */
export function malformedRequest(problem: string, field: string | null = null): RejectionOf<'MALFORMED_REQUEST'> {
  if (field === null) return rejection('MALFORMED_REQUEST', problem, {});
  return rejection('MALFORMED_REQUEST', `${field}: ${problem}`, {}, [{ field, description: problem }]);
}

export function unimplementedMethod(path: string): RejectionOf<'UNIMPLEMENTED_METHOD'> {
  return rejection('UNIMPLEMENTED_METHOD', `the broker has no method ${path}`, {});
}

export function serviceNotFound(name: string): RejectionOf<'SERVICE_NOT_FOUND'> {
  return rejection('SERVICE_NOT_FOUND', `the broker has no service "${name}"`, {});
}

export function compressionRefused(): RejectionOf<'COMPRESSION_REFUSED'> {
  return rejection('COMPRESSION_REFUSED', 'the broker takes no compressed requests: send this one as it is', {});
}

export function deadlineExceeded(): RejectionOf<'DEADLINE_EXCEEDED'> {
  return rejection('DEADLINE_EXCEEDED', "the call was not answered within its client's deadline", {});
}

/** `bytes`: the size of a Publish, whose records are the violation; null for other requests. */
export function requestTooLarge({
  bytes,
  bytesMax,
}: {
  readonly bytes: number | null;
  readonly bytesMax: number;
}): RejectionOf<'REQUEST_TOO_LARGE'> {
  if (bytes === null) {
    return rejection('REQUEST_TOO_LARGE', `the request is larger than ${bytesMax} bytes`, { bytesMax });
  }
  const description = `the request has ${bytes} bytes, more than publish_bytes_max = ${bytesMax}`;
  return rejection('REQUEST_TOO_LARGE', description, { bytesMax }, [{ field: 'records', description }]);
}
