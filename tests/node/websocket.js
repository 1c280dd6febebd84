'use strict';
// NSP over WebSocket with the package `ws`, as a browser would have it: one message of the wire is one of WebSocket.

const WebSocket = require('ws');
const { tell, obey } = require('./lines');
const { pack, unpack } = require('./packets');

let socket;

obey({
    connect(command) {
        socket = new WebSocket(command.url, { origin: command.origin, rejectUnauthorized: false });
        socket.on('open', () => tell('connected', {}));
        socket.on('message', (message) => {
            if (message.toString() === 'HB') tell('heartbeat', {});
            else tell('packet', unpack(message));
        });
        socket.on('unexpected-response', (request, response) => tell('refused', { status: response.statusCode }));
        socket.on('error', (error) => tell('error', { message: error.message }));
        socket.on('close', (code, reason) => tell('close', { code, reason: reason.toString() }));
    },

    say(command) {
        const blob = command.blob === undefined ? undefined : Buffer.from(command.blob, 'hex');
        const message = pack(command.letters, command.json, blob);
        socket.send(command.text ? message.toString() : message);
    },
});
