// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {ISessionEscrow} from "../src/interfaces/ISessionEscrow.sol";
import {IX402BatchSettlement} from "../src/interfaces/IX402BatchSettlement.sol";
import {TestBase} from "./utils/TestBase.sol";

/// @title Ids and digests of x402 channels and session channels, computed by the contracts at the addresses and on the chains of
/// `vectors/escrows.json`, which the Rust crates compare with theirs.
contract EscrowVectorsTest is TestBase {
    string private _vectors;
    string private _at;

    function setUp() public {
        _vectors = vm.readFile("vectors/escrows.json");
    }

    function _word(string memory name) private view returns (bytes32) {
        return abi.decode(vm.parseJsonBytes(_vectors, string.concat(_at, name)), (bytes32));
    }

    function _number(string memory name) private view returns (uint256) {
        return vm.parseJsonUint(_vectors, string.concat(_at, name));
    }

    function _address(string memory name) private view returns (address) {
        return vm.parseJsonAddress(_vectors, string.concat(_at, name));
    }

    function _bytes(string memory name) private view returns (bytes memory) {
        return vm.parseJsonBytes(_vectors, string.concat(_at, name));
    }

    /// @dev Moves the running chain to that of the entry.
    function _enter(string memory list, uint256 index) private returns (bool) {
        _at = string.concat(list, "[", vm.toString(index), "]");
        if (!vm.keyExistsJson(_vectors, _at)) return false;
        vm.chainId(_number(".chainId"));
        return true;
    }

    function _separator(bytes1 fields, string memory name, string memory version, uint256 chainId, address where)
        private
        pure
        returns (bytes32)
    {
        vm.assertEq(bytes32(fields), bytes32(bytes1(0x0f)));
        bytes32 typehash = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        return keccak256(abi.encode(typehash, keccak256(bytes(name)), keccak256(bytes(version)), chainId, where));
    }

    // --------------------------------------------------------------------------------------------------------------------------- x402

    function _row(IX402BatchSettlement.ChannelConfig memory config, uint128 ceiling, uint128 claimed)
        private
        pure
        returns (IX402BatchSettlement.VoucherClaim memory row)
    {
        row.voucher = IX402BatchSettlement.Voucher(config, ceiling);
        row.totalClaimed = claimed;
    }

    function _config() private returns (IX402BatchSettlement.ChannelConfig memory) {
        _at = ".x402.config";
        return IX402BatchSettlement.ChannelConfig({
            payer: _address(".payer"),
            payerAuthorizer: _address(".payerAuthorizer"),
            receiver: _address(".receiver"),
            receiverAuthorizer: _address(".receiverAuthorizer"),
            token: _address(".token"),
            withdrawDelay: uint40(_number(".withdrawDelay")),
            salt: _word(".salt")
        });
    }

    /// @dev What is claimed and refunded in the vectors.
    struct Amounts {
        uint128 ceiling;
        uint128 claimed;
        uint256 refundNonce;
        uint128 refund;
        uint256 salt;
    }

    /// @dev E-1: the addresses of the canonical contracts, which are part of the digests, on each chain.
    function test_BatchSettlement() external {
        _at = ".x402";
        IX402BatchSettlement settlement = IX402BatchSettlement(_address(".addresses.settlement"));
        vm.etch(address(settlement), vm.deployCode("X402BatchSettlement.sol:X402BatchSettlement").code);
        Amounts memory amounts = Amounts({
            ceiling: uint128(_number(".maxClaimableAmount")),
            claimed: uint128(_number(".totalClaimed")),
            refundNonce: _number(".refundNonce"),
            refund: uint128(_number(".refundAmount")),
            salt: _number(".authorizationSalt")
        });
        IX402BatchSettlement.ChannelConfig memory config = _config();
        uint256 chains = 0;
        for (; _enter(".x402.chains", chains); ++chains) {
            _domains(settlement);
            _digests(settlement, config, amounts);
            _batches(settlement, config, amounts.ceiling, amounts.claimed);
        }
        vm.assertEq(chains, 2);
    }

    function _domains(IX402BatchSettlement settlement) private view {
        (bytes1 fields, string memory name, string memory version, uint256 chainId, address where,,) = settlement.eip712Domain();
        vm.assertEq(_separator(fields, name, version, chainId, where), _word(".domainSeparator"));
    }

    function _digests(IX402BatchSettlement settlement, IX402BatchSettlement.ChannelConfig memory config, Amounts memory amounts)
        private
        view
    {
        bytes32 id = settlement.getChannelId(config);
        vm.assertEq(id, _word(".channelId"));
        vm.assertEq(settlement.getVoucherDigest(id, amounts.ceiling), _word(".voucherDigest"));
        vm.assertEq(settlement.getRefundDigest(id, amounts.refundNonce, amounts.refund), _word(".refundDigest"));
        vm.assertEq(ECDSA.recover(_word(".voucherDigest"), _bytes(".voucherSignature")), config.payerAuthorizer);
        vm.assertEq(ECDSA.recover(_word(".refundDigest"), _bytes(".refundSignature")), config.receiverAuthorizer);
        vm.assertEq(ECDSA.recover(_word(".claimBatchDigest"), _bytes(".claimBatchSignature")), config.receiverAuthorizer);
        vm.assertEq(keccak256(abi.encode(id, amounts.salt)), _word(".erc3009Nonce"));
        vm.assertEq(keccak256(abi.encode(keccak256("DepositWitness(bytes32 channelId)"), id)), _word(".depositWitness"));
    }

    function _batches(IX402BatchSettlement settlement, IX402BatchSettlement.ChannelConfig memory config, uint128 ceiling, uint128 claimed)
        private
        view
    {
        IX402BatchSettlement.VoucherClaim[] memory rows = new IX402BatchSettlement.VoucherClaim[](1);
        rows[0] = _row(config, ceiling, claimed);
        vm.assertEq(settlement.getClaimBatchDigest(rows), _word(".claimBatchDigest"));
        rows = new IX402BatchSettlement.VoucherClaim[](2);
        rows[0] = _row(config, ceiling, claimed);
        IX402BatchSettlement.ChannelConfig memory other = abi.decode(abi.encode(config), (IX402BatchSettlement.ChannelConfig));
        other.salt = bytes32(uint256(2));
        rows[1] = _row(other, ceiling, claimed);
        vm.assertEq(settlement.getChannelId(other), _word(".otherChannelId"));
        vm.assertEq(settlement.getClaimBatchDigest(rows), _word(".claimBatchDigestOfTwo"));
        vm.assertEq(settlement.getClaimBatchDigest(new IX402BatchSettlement.VoucherClaim[](0)), _word(".claimBatchDigestOfNone"));
    }

    /// @dev E-1: functions, and with them everything that a client encodes.
    function test_TheSelectorsAreTheCanonicalOnes() external pure {
        bytes4[17] memory actual = [
            IX402BatchSettlement.deposit.selector,
            IX402BatchSettlement.claim.selector,
            IX402BatchSettlement.claimWithSignature.selector,
            IX402BatchSettlement.settle.selector,
            IX402BatchSettlement.initiateWithdraw.selector,
            IX402BatchSettlement.finalizeWithdraw.selector,
            IX402BatchSettlement.refund.selector,
            IX402BatchSettlement.refundWithSignature.selector,
            IX402BatchSettlement.multicall.selector,
            IX402BatchSettlement.getChannelId.selector,
            IX402BatchSettlement.getVoucherDigest.selector,
            IX402BatchSettlement.getRefundDigest.selector,
            IX402BatchSettlement.getClaimBatchDigest.selector,
            IX402BatchSettlement.channels.selector,
            IX402BatchSettlement.pendingWithdrawals.selector,
            IX402BatchSettlement.receivers.selector,
            IX402BatchSettlement.refundNonce.selector
        ];
        uint32[17] memory canonical = [
            uint32(0x140f1e75),
            0x29237b0c,
            0xe43ce1f2,
            0x9db32a8f,
            0xcf5cf3dc,
            0xe88377b1,
            0xdce4bfae,
            0xb77433e9,
            0xac9650d8,
            0x5e5e0b87,
            0x862bb199,
            0xe25cf189,
            0x488ccc3b,
            0x7a7ebd7b,
            0xb7f06ebe,
            0x21ff6389,
            0xf0dc792e
        ];
        for (uint256 i = 0; i < 17; ++i) {
            vm.assertEq(uint256(uint32(actual[i])), canonical[i], vm.toString(i));
        }
    }

    function test_TheTypehashesAreThoseOfTheirTexts() external {
        IX402BatchSettlement settlement = IX402BatchSettlement(vm.deployCode("X402BatchSettlement.sol:X402BatchSettlement"));
        vm.assertEq(
            settlement.CHANNEL_CONFIG_TYPEHASH(),
            keccak256(
                "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
            )
        );
        vm.assertEq(settlement.VOUCHER_TYPEHASH(), keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)"));
        vm.assertEq(settlement.REFUND_TYPEHASH(), keccak256("Refund(bytes32 channelId,uint256 nonce,uint128 amount)"));
        string memory entry = "ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)";
        vm.assertEq(settlement.CLAIM_ENTRY_TYPEHASH(), keccak256(bytes(entry)));
        vm.assertEq(settlement.CLAIM_BATCH_TYPEHASH(), keccak256(abi.encodePacked("ClaimBatch(ClaimEntry[] claims)", entry)));
        ISessionEscrow escrow = ISessionEscrow(vm.deployCode("SessionEscrow.sol:SessionEscrow"));
        vm.assertEq(escrow.VOUCHER_TYPEHASH(), keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)"));
        string memory fields = "(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)";
        vm.assertEq(escrow.SETTLE_AUTHORIZATION_TYPEHASH(), keccak256(abi.encodePacked("SettleAuthorization", fields)));
        vm.assertEq(escrow.CLOSE_AUTHORIZATION_TYPEHASH(), keccak256(abi.encodePacked("CloseAuthorization", fields)));
    }

    // ------------------------------------------------------------------------------------------------------------------------ session

    struct Session {
        ISessionEscrow escrow;
        address payer;
        address payee;
        address token;
        bytes32 salt;
        uint128 additionalDeposit;
        bytes32 topUpSalt;
        uint128 cumulativeAmount;
        uint256 nonce;
        uint256 deadline;
    }

    function test_SessionEscrow() external {
        _at = ".session";
        Session memory s = Session({
            escrow: ISessionEscrow(_address(".escrow")),
            payer: _address(".payer"),
            payee: _address(".payee"),
            token: _address(".token"),
            salt: _word(".salt"),
            additionalDeposit: uint128(_number(".additionalDeposit")),
            topUpSalt: _word(".topUpSalt"),
            cumulativeAmount: uint128(_number(".cumulativeAmount")),
            nonce: _number(".nonce"),
            deadline: _number(".deadline")
        });
        vm.etch(address(s.escrow), vm.deployCode("SessionEscrow.sol:SessionEscrow").code);
        uint256 channels = 0;
        for (; _enter(".session.channels", channels); ++channels) {
            _channel(s);
        }
        vm.assertEq(channels, 4);
    }

    function _channel(Session memory s) private view {
        address signer = _address(".authorizedSigner");
        bytes32 id = s.escrow.computeChannelId(s.payer, s.payee, s.token, s.salt, signer);
        vm.assertEq(id, _word(".channelId"));
        vm.assertEq(s.escrow.domainSeparator(), _word(".domainSeparator"));
        vm.assertEq(s.escrow.getVoucherDigest(id, s.cumulativeAmount), _word(".voucherDigest"));
        vm.assertEq(s.escrow.getSettleAuthorizationDigest(id, s.cumulativeAmount, s.nonce, s.deadline), _word(".settleAuthorizationDigest"));
        vm.assertEq(s.escrow.getCloseAuthorizationDigest(id, s.cumulativeAmount, s.nonce, s.deadline), _word(".closeAuthorizationDigest"));
        address voucherSigner = ECDSA.recover(_word(".voucherDigest"), _bytes(".voucherSignature"));
        if (signer == address(0)) vm.assertEq(voucherSigner, s.payer);
        else vm.assertEq(voucherSigner, signer);
        vm.assertEq(ECDSA.recover(_word(".settleAuthorizationDigest"), _bytes(".settleAuthorizationSignature")), s.payee);
        vm.assertEq(ECDSA.recover(_word(".closeAuthorizationDigest"), _bytes(".closeAuthorizationSignature")), s.payee);
        vm.assertEq(keccak256(abi.encode(s.payer, s.payee, s.token, s.salt, signer)), _word(".openNonce"));
        vm.assertEq(keccak256(abi.encode(id, s.additionalDeposit, s.payer, s.topUpSalt)), _word(".topUpNonce"));
        bytes32 typehash = keccak256("ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)");
        vm.assertEq(keccak256(abi.encode(typehash, s.payee, s.salt, signer)), _word(".openWitness"));
        vm.assertEq(keccak256(abi.encode(keccak256("ChannelTopUpWitness(bytes32 channelId)"), id)), _word(".topUpWitness"));
    }
}
