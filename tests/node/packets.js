'use strict';
// Packets of NSP 0.5, written from the description of the wire and nothing else.

/** Which packets are packed: JSON, and perhaps a blob, each behind its length. */
const PACKED = ['CSrq', 'CSrs', 'CArq'];

function length16(length) {
    return Buffer.from(String(length).padStart(16, '0'));
}

/** `CSrq` and the like, a value, and bytes beside it, as one message. */
function pack(letters, value, blob) {
    const json = Buffer.from(JSON.stringify(value));
    const parts = [Buffer.from(letters)];
    if (PACKED.includes(letters)) parts.push(length16(json.length));
    parts.push(json);
    if (blob !== undefined) parts.push(length16(blob.length), blob);
    return Buffer.concat(parts);
}

/** The parts of a message, in a form that can be told. */
function unpack(message) {
    const letters = message.subarray(0, 4).toString();
    let body = message.subarray(4);
    let blob;
    if (PACKED.includes(letters)) {
        const end = 16 + Number(body.subarray(0, 16).toString());
        if (body.length > end) blob = body.subarray(end + 16).toString('hex');
        body = body.subarray(16, end);
    }
    return { letters, json: JSON.parse(body.toString()), blob };
}

module.exports = { pack, unpack, length16 };
