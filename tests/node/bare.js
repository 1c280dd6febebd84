'use strict';
// A bare socket, for what the package would not send.

const net = require('net');
const { tell, obey } = require('./lines');

let socket;
let bytes = 0;

obey({
    connect(command) {
        socket = net.connect({ host: '127.0.0.1', port: command.port }, () => tell('connected', {}));
        socket.on('data', (data) => {
            bytes += data.length;
            tell('data', { hex: data.toString('hex') });
        });
        socket.on('error', (error) => tell('error', { code: error.code }));
        socket.on('close', () => tell('close', {}));
    },

    write(command) {
        socket.write(Buffer.from(command.hex, 'hex'));
    },

    count() {
        tell('count', { bytes });
    },
});
